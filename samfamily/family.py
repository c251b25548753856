r"""The family: one row for each published variant, with its reference, and nothing else.

A row takes its paper's symbols as keywords and returns a `Variant`; `FAMILY` lists them in this order.  Throughout,
\(g = \nabla L(w)\), \(\hat g = g/\lVert g\rVert\), \(\hat\epsilon\) is the perturbation and
\(h = \nabla L(w + \hat\epsilon)\).  rho is a number of at least 0 or a schedule `step -> rho`, in the units of the
ball: of the weights, but for ASAM's.  A value out of its range raises ValueError, and what is no number TypeError, each
naming the value and the remedy.  Any row works in any ball, `row.within(Ball(p=..., metric=...))`, but for the
second-order term's p = 2; and sharded, `row.sharded(m)`, but for SSAMD.
"""

from __future__ import annotations

from collections.abc import Callable

from samfamily import check
from samfamily.ascent import (
    Gradient,
    GradientAtNoise,
    Noise,
    PreviousGradient,
    Recalled,
    Residual,
    RunningMean,
    TowardsEigenvector,
)
from samfamily.ball import Ball
from samfamily.descent import (
    Blend,
    Curvature,
    Decoupled,
    Extrapolated,
    Momentum,
    Perturbed,
    Renormalised,
    Reuse,
    SecondOrder,
    SurrogateGap,
    SurrogateGapOfLoss,
)
from samfamily.mask import DropAndRegrow, LargestFisher
from samfamily.metric import Adaptive, Fisher, Identity, RandomLeaves, Restricted, Size, elementwise, normalisations
from samfamily.radius import Bernoulli, Constant, Periodic, Rho, Schedule, Thresholded, Unnormalised
from samfamily.space import Leaf
from samfamily.variant import Variant

__all__ = [
    "AESAM",
    "ASAM",
    "CRSAM",
    "ESAM",
    "FAMILY",
    "GNP",
    "GSAM",
    "MSAM",
    "RSAM",
    "SAM",
    "SAMON",
    "SSAM",
    "SSAMD",
    "SSSAM",
    "USAM",
    "WSAM",
    "AsyncSAM",
    "EigenSAM",
    "FisherSAM",
    "FriendlySAM",
    "LookSAM",
    "OptSAM",
    "PeriodicSAM",
    "RandomSmoothing",
    "SAMPa",
    "StableSAM",
    "VaSSO",
]


def SAM(rho: Rho = 0.05, p: float = 2, steps: int = 1, second_order: bool = False) -> Variant:
    r"""Sharpness-aware minimisation: descend with the gradient at the worst point of the ball, to first order.

    $$ \hat\epsilon = \rho\,\mathrm{sign}(g)\,\frac{|g|^{q-1}}{\lVert g\rVert_q^{q-1}}, \qquad
       \text{gradient} = h, \qquad \tfrac1p + \tfrac1q = 1 $$

    Foret, Kleiner, Mobahi, Neyshabur, ICLR 2021, arXiv 2010.01412: eq. 2 for the perturbation, Algorithm 1 for the
    step, appendix C.4 for `second_order`, C.5 for p, C.6 for `steps`.

    Reduces to the base optimizer at rho = 0.

    Args:
        rho: the radius.
        p: norm of the ball, in [1, inf].
        steps: climbs, each from w along the gradient at the point that the last one reached; all stay in the ball.
        second_order: keep the derivative of the perturbation itself; for p = 2 and one climb.

    Returns:
        The variant.

    Raises:
        ValueError: rho negative or not finite, p < 1, steps < 1, or second_order with another p or steps.

    Example:
        >>> import numpy as np
        >>> from samfamily.reference import value_and_grad
        >>> loss = lambda w: (0.5 * float(w[0] @ w[0]), [w[0]])  # value and gradient of |w|^2 / 2
        >>> value_and_grad(loss, SAM(rho=0.5))([np.array([3.0, 4.0])])
        (12.5, [array([3.3, 4.4])])
    """
    return Variant("SAM", Constant(rho), Ball(p), Gradient(steps), SecondOrder() if second_order else Perturbed())


def USAM(rho: Rho = 0.05) -> Variant:
    r"""SAM without normalisation: the perturbation is as long as the gradient makes it.

    $$ \hat\epsilon = \rho\,g, \qquad \text{gradient} = h $$

    Andriushchenko and Flammarion, ICML 2022, arXiv 2206.06232.

    Reduces to the base optimizer at rho = 0, and to SAM where rho is divided by the gradient's norm.

    Args:
        rho: the perturbation's length in units of the gradient's.

    Example:
        >>> USAM(rho=0.1).gradients_per_step
        2.0
    """
    return Variant("USAM", Unnormalised(rho))


def ASAM(
    rho: Rho = 0.5,
    eta: float = 0.01,
    p: float = 2,
    steps: int = 1,
    size: Size = elementwise,
    euclidean: Callable[[Leaf], bool] | None = None,
) -> Variant:
    r"""Adaptive SAM: the ball is measured in units of the weights, so that rescaling them changes nothing.

    $$ \hat\epsilon = \rho\,T_w\,\mathrm{sign}(g)\,\frac{|T_w g|^{q-1}}{\lVert T_w g\rVert_q^{q-1}}, \qquad
       T_w = \mathrm{size}(w) + \eta, \qquad \text{gradient} = h $$

    Kwon, Kim, Park, Choi, ICML 2021, arXiv 2102.11600.  Scale invariance is exact at eta = 0 with no Euclidean leaf.
    The authors' code keeps T = 1 on biases: `ASAM(euclidean=samfamily.biases)`.

    Reduces to SAM where T is the identity, and to the base optimizer at rho = 0.

    Args:
        rho: the radius, relative to the weights.
        eta: added to every size, so that a weight of zero can move; in the units of the weights.
        p: norm of the ball, in [1, inf].
        steps: climbs inside the ball, which keeps its metric at w.
        size: `elementwise`, `layerwise` or `filterwise`, from `samfamily`.
        euclidean: picks the leaves on which T = 1, such as `samfamily.biases`.

    Returns:
        The variant.

    Raises:
        ValueError: rho or eta negative or not finite, p < 1, steps < 1.

    Example:
        >>> import numpy as np
        >>> from samfamily.reference import value_and_grad
        >>> loss = lambda w: (float(w[0].sum()), [np.ones(2)])
        >>> seen = []
        >>> _ = value_and_grad(lambda w: seen.append(w[0]) or loss(w), ASAM(rho=0.5, eta=0.0))([np.array([3.0, 4.0])])
        >>> (seen[1] - seen[0]) / seen[0]  # relative: proportional to the weight itself
        array([0.3, 0.4])
    """
    return Variant("ASAM", Constant(rho), Ball(p, Adaptive(size, eta, euclidean)), Gradient(steps))


def FisherSAM(rho: Rho = 0.05, eta: float = 1.0) -> Variant:
    r"""SAM in the ball of the Fisher information, an ellipsoid.

    $$ \hat\epsilon = \rho\,\frac{F^{-1} g}{\sqrt{g^\top F^{-1} g}}, \qquad F = 1 + \eta\,g \odot g, \qquad
       \text{gradient} = h $$

    Kim, Li, Hu, Hospedales, ICML 2022, arXiv 2206.04920.  F comes from the batch's own gradient and so changes with the
    loss's scale.

    Reduces to SAM at eta = 0.

    Args:
        rho: the radius, in the norm of F.
        eta: the weight of the Fisher information, at least 0; in units of 1 / g^2.

    Example:
        >>> FisherSAM(eta=0.5).ball.metric
        Fisher(eta=0.5)
    """
    return Variant("FisherSAM", Constant(rho), Ball(metric=Fisher(eta)))


def SAMON(rho: Rho = 0.5, eta: float = 0.01, p: float = 2, size: Size | None = elementwise) -> Variant:
    r"""SAM-ON: only the normalisation layers are perturbed.

    $$ \hat\epsilon = \rho\,T\,\mathrm{lmo}_p(T g), \qquad T = \mathbb 1_{\text{norm}}\,(|w| + \eta), \qquad
       \text{gradient} = h $$

    Mueller, Vlaar, Rolnick, Hein, NeurIPS 2023, arXiv 2306.04226.  The norm is over the perturbed leaves alone.
    PyTorch tells those leaves by module type: pass `model=`; equinox and nnx likewise, and for other trees in JAX give
    `normalisation=`.  With `size=None` the metric there is the identity.

    Reduces to ASAM where every leaf belongs to a normalisation layer.

    Args:
        rho: the radius, relative to the weights unless size is None.
        eta: added to every size; in the units of the weights.
        p: norm of the ball, in [1, inf].
        size: `elementwise`, `layerwise` or `filterwise`; None for T = 1.

    Example:
        >>> SAMON(p=float("inf")).ball.p
        inf
    """
    metric = Identity() if size is None else Adaptive(size, eta)
    return Variant("SAMON", Constant(rho), Ball(p, Restricted(metric, normalisations)))


def SSAM(rho: Rho = 0.1, sparsity: float = 0.5, every: int = 100) -> Variant:
    r"""Sparse SAM with a Fisher mask (SSAM-F): only the coordinates of the largest Fisher information are perturbed.

    $$ \hat\epsilon = \rho\,M \odot \hat g, \qquad M_i = 1 \text{ where } g_i^2 \text{ is among the largest}, \qquad
       \text{gradient} = h $$

    Mi, Shen, Ren, Zhou, Sun, Ji, Tao, NeurIPS 2022, arXiv 2210.05177.  The mask follows the normalisation, so the
    perturbation is shorter than rho.  The information is measured in the first step and every so many steps, on the
    batch's gradient; `.sharded(1)` measures it example by example, as the paper does.

    Reduces to SAM at sparsity = 0.

    Args:
        rho: the radius before the mask.
        sparsity: the fraction of coordinates that does not move, in [0, 1).
        every: steps between two measurements of the Fisher information.

    Example:
        >>> SSAM(sparsity=0.9).ball.mask
        LargestFisher(sparsity=0.9, every=100)
    """
    return Variant("SSAM", Constant(rho), Ball(mask=LargestFisher(sparsity, every)))


def SSAMD(rho: Rho = 0.1, sparsity: float = 0.5, every: int = 100, drop: float = 0.5, seed: int = 0) -> Variant:
    r"""Sparse SAM with a dynamic mask (SSAM-D): flat coordinates are dropped, and as many regrown.

    $$ \hat\epsilon = \rho\,M \odot \hat g, \qquad \text{gradient} = h $$

    Mi, Shen, Ren, Zhou, Sun, Ji, Tao, NeurIPS 2022, arXiv 2210.05177.  The mask begins at random; every so many steps
    the fraction `drop` of its coordinates, those of the smallest \(|g_i|\), is replaced by that of the largest outside
    it.

    Reduces to SAM at sparsity = 0.

    Args:
        rho: the radius before the mask.
        sparsity: the fraction of coordinates that does not move, in [0, 1).
        every: steps between two changes of the mask.
        drop: the fraction of the mask that a change replaces, in [0, 1].
        seed: of the first mask.

    Example:
        >>> SSAMD(drop=0.3).ball.mask.drop
        0.3
    """
    return Variant("SSAMD", Constant(rho), Ball(mask=DropAndRegrow(sparsity, every, drop, seed)))


def ESAM(rho: float = 0.05, beta: float = 0.6, seed: int = 0) -> Variant:
    r"""The weight half of efficient SAM: each tensor is perturbed with probability beta, further in proportion.

    $$ \hat\epsilon = \frac{\rho}{\beta}\,\frac{T g}{\lVert T g\rVert}, \qquad T_l \sim \mathrm{Bernoulli}(\beta),
       \qquad \text{gradient} = h $$

    Du, Yan, Feng, Zhou, Zhen, Goh, Tan, ICLR 2022, arXiv 2110.03141.  Its other half selects examples by their own
    losses.

    Reduces to SAM at beta = 1.

    Args:
        rho: the radius, were all tensors perturbed; a number.
        beta: the probability of each, in (0, 1].
        seed: of the draws.

    Example:
        >>> ESAM(rho=0.1, beta=0.5).radius
        Constant(rho=0.2)
    """
    check.nonnegative("rho", rho)
    check.fraction("beta", beta)
    return Variant("ESAM", Constant(rho / beta), Ball(metric=RandomLeaves(beta, seed)))


def GSAM(rho: Rho = 0.05, alpha: float = 0.4, minimize_fp: bool = True) -> Variant:
    r"""Surrogate-gap SAM: lower the perturbed loss, and across its gradient the gap to the loss.

    $$ \text{gradient} = h - \alpha\,(g - \langle g, \hat h\rangle\,\hat h) $$

    Zhuang, Gong, Yuan, Cui, Adam, Dvornek, Tatikonda, Duncan, Liu, ICLR 2022, arXiv 2203.08065.  With
    `minimize_fp=False` the loss itself is lowered, \(g + \alpha\,(h - \langle h, \hat g\rangle\,\hat g)\).  The default
    alpha is the paper's for ViTs; for ResNets it took 0.005 to 0.01.  The paper ties rho to the learning rate:
    `GSAM(rho=samfamily.Tied(lr, lr_max=3e-3, rho_max=0.6, lr_min=3e-5, rho_min=0.1))`, `lr` a function of the step.

    Reduces to SAM at alpha = 0.

    Args:
        rho: the radius.
        alpha: how much of the gap's gradient is descended; 0.4 to 1 for ViTs, 0.005 to 0.01 for ResNets in the paper.
        minimize_fp: lower the perturbed loss, and not the loss itself.

    Example:
        >>> GSAM(alpha=0.1).descent
        SurrogateGap(alpha=0.1)
    """
    return Variant("GSAM", Constant(rho), descent=SurrogateGap(alpha) if minimize_fp else SurrogateGapOfLoss(alpha))


def GNP(rho: Rho = 0.1, alpha: float = 0.8) -> Variant:
    r"""Penalising the gradient's norm: a blend of the gradient at w and the perturbed one.

    $$ \text{gradient} = (1-\alpha)\,g + \alpha\,h $$

    Zhao, Zhang, Hu, ICML 2022, arXiv 2202.03599: alpha is their lambda / r.  (Their code's default mixes
    \(\hat g\) in the place of \(g\); this is the paper's form.)

    Reduces to SAM at alpha = 1 and to the base optimizer at alpha = 0.

    Args:
        rho: the radius, their r.
        alpha: the weight of the perturbed gradient.

    Example:
        >>> GNP(alpha=0.5).descent
        Blend(a=0.5)
    """
    check.number("alpha", alpha)
    return Variant("GNP", Constant(rho), descent=Blend(alpha))


def WSAM(rho: Rho = 0.05, gamma: float = 0.88, decoupled: bool = True) -> Variant:
    r"""Weighted sharpness: sharpness as a regulariser with a weight of its own, apart from the base optimizer.

    $$ a = \frac{\gamma}{1-\gamma}, \qquad \text{gradient} = (1-a)\,g + a\,h \quad\text{(coupled)}, \qquad
       \text{gradient} = g,\; w \leftarrow w - \eta\,a\,(h - g) \text{ after the base step (decoupled)} $$

    Yue, Jiang, Ye, Gao, Liu, Zhang, KDD 2023, arXiv 2305.15817.

    Reduces to SAM at gamma = 1/2 when coupled, or decoupled over plain gradient descent; to the base optimizer at gamma
    = 0.

    Args:
        rho: the radius.
        gamma: the weight of sharpness, in [0, 1).
        decoupled: apart from the base optimizer, in PyTorch and through the optax bridge.

    Example:
        >>> WSAM(gamma=0.5).descent
        Decoupled(a=1.0)
    """
    check.nonnegative("gamma", gamma)
    if not gamma < 1:
        raise ValueError(f"gamma must be in [0, 1), got {gamma!r}: gamma=0.5 weighs loss and sharpness alike")
    a = gamma / (1 - gamma)
    return Variant("WSAM", Constant(rho), descent=Decoupled(a) if decoupled else Blend(a))


def StableSAM(rho: Rho = 0.05) -> Variant:
    r"""SAM's direction at the length of the gradient at w.

    $$ \text{gradient} = \frac{\lVert g\rVert}{\lVert h\rVert}\,h $$

    Tan, Zhang, Liu, Wang, Hao, JMLR 2025, arXiv 2401.07250.

    Reduces to the base optimizer at rho = 0.

    Args:
        rho: the radius.

    Example:
        >>> StableSAM().gradients_per_step
        2.0
    """
    return Variant("StableSAM", Constant(rho), descent=Renormalised())


def LookSAM(rho: Rho = 0.1, k: int = 5, alpha: float = 0.7) -> Variant:
    r"""Climb every k-th step, and reuse the part of the perturbed gradient that lies across the gradient in between.

    $$ t \equiv 0 \pmod k: \text{gradient} = h,\; v = h - \langle h, \hat g\rangle\,\hat g; \qquad
       \text{else: gradient} = g + \alpha\,\lVert g\rVert\,\frac{v}{\lVert v\rVert} $$

    Liu, Mai, Chen, Hsieh, You, CVPR 2022, arXiv 2203.02714.  Norms are over the whole tree.

    Reduces to SAM at k = 1.

    Args:
        rho: the radius.
        k: the period of the climbs.
        alpha: the length of the reused part, in units of the gradient's.

    Example:
        >>> LookSAM(k=5).gradients_per_step
        1.2
    """
    return Variant("LookSAM", Periodic(rho, k), descent=Reuse(alpha))


def PeriodicSAM(rho: Rho = 0.05, k: int = 5) -> Variant:
    r"""SAM every k-th step, the base optimizer in between.

    $$ \text{gradient} = h \text{ where } t \equiv 0 \pmod k, \qquad g \text{ elsewhere} $$

    The baseline of Liu et al., arXiv 2203.02714 (LookSAM at alpha = 0).

    Reduces to SAM at k = 1.

    Args:
        rho: the radius.
        k: the period.

    Example:
        >>> PeriodicSAM(k=4).gradients_per_step
        1.25
    """
    return Variant("PeriodicSAM", Periodic(rho, k))


def SSSAM(rho: Rho = 0.05, probability: float = 0.5, seed: int = 0) -> Variant:
    r"""Stochastically scheduled SAM: a coin decides, at every step, whether to climb.

    $$ \text{gradient} = h \text{ with probability } p, \qquad g \text{ otherwise} $$

    Zhao, Zhang, Hu, "SS-SAM", 2022, arXiv 2203.09962.

    Reduces to SAM at probability = 1.

    Args:
        rho: the radius.
        probability: of a climb, in (0, 1].
        seed: of the coin.

    Example:
        >>> SSSAM(probability=0.25).gradients_per_step
        1.25
    """
    return Variant("SSSAM", Bernoulli(rho, probability, seed))


def AESAM(rho: Rho = 0.05, c: float | Schedule = 0.0, delta: float = 0.9) -> Variant:
    r"""Adaptive policy: climb where the squared gradient norm is large for its recent history.

    $$ \text{gradient} = h \text{ where } \lVert g\rVert^2 \ge \mu_t + c_t\,\sigma_t, \qquad g \text{ elsewhere} $$

    Jiang, Yang, Zhang, Kwok, ICLR 2023, "An adaptive policy to employ sharpness-aware minimization", arXiv 2304.14647;
    the order of the moments' updates is from a third party's code.  Costs 1 to 2 gradients.

    Reduces to SAM at c = -inf and to the base optimizer at c = inf.

    Args:
        rho: the radius.
        c: how many deviations above the mean is large: a number, which may be infinite, or a schedule.
        delta: how much of the moments is kept, in [0, 1).

    Example:
        >>> AESAM(c=1.0).radius
        Thresholded(rho=0.05, c=1.0, delta=0.9)
    """
    return Variant("AESAM", Thresholded(rho, c, delta))


def FriendlySAM(rho: Rho = 0.2, sigma: float = 1.0, lmbda: float = 0.9) -> Variant:
    r"""Climb along the batch's noise: the gradient less its running mean.

    $$ d = g - \sigma\,m_{t-1}, \qquad m_t = \lambda\,m_{t-1} + (1-\lambda)\,g, \qquad
       \hat\epsilon = \rho\,\frac{d}{\lVert d\rVert}, \qquad \text{gradient} = h $$

    Li, Zhou, He, Cheng, Huang, CVPR 2024, arXiv 2403.12350, in the order of the authors' code, whose first step is
    SAM's.

    Reduces to SAM at sigma = 0.

    Args:
        rho: the radius.
        sigma: how much of the mean is taken away.
        lmbda: how much of the mean is kept, in [0, 1).

    Example:
        >>> FriendlySAM(sigma=0.5).ascent
        Residual(steps=1, sigma=0.5, lmbda=0.9)
    """
    return Variant("FriendlySAM", Constant(rho), ascent=Residual(sigma=sigma, lmbda=lmbda))


def VaSSO(rho: Rho = 0.05, theta: float = 0.9) -> Variant:
    r"""Variance suppression: climb along a running mean of the gradients.

    $$ d_t = (1-\theta)\,d_{t-1} + \theta\,g, \qquad \hat\epsilon = \rho\,\frac{d_t}{\lVert d_t\rVert}, \qquad
       \text{gradient} = h $$

    Li, Giannakis, NeurIPS 2023, arXiv 2309.15639.  The default theta is the authors' code's, nearly SAM.

    Reduces to SAM at theta = 1.

    Args:
        rho: the radius.
        theta: the weight of the newest gradient, in (0, 1].

    Example:
        >>> VaSSO(theta=0.2).ascent
        RunningMean(steps=1, theta=0.2)
    """
    return Variant("VaSSO", Constant(rho), ascent=RunningMean(theta=theta))


def MSAM(rho: Rho = 0.3, mu: float = 0.9) -> Variant:
    r"""Momentum-SAM: the perturbation is the negative momentum, which is known already, so one gradient is enough.

    $$ \hat\epsilon = -\rho\,\frac{v}{\lVert v\rVert}, \qquad v \leftarrow \mu\,v + h, \qquad \text{gradient} = h $$

    Becker, Altrock, Risse, 2024, arXiv 2401.12033.  It goes the way that the next step goes; the other way hurts (their
    section 4.1).  Use the base optimizer's momentum as mu.  The loss that comes back is that at the perturbed point.

    Reduces to the base optimizer at rho = 0; with rho unnormalised and equal to lr mu, to Nesterov's method.

    Args:
        rho: the radius; an order larger than SAM's suits it, in the paper's configurations.
        mu: the momentum, in [0, 1).

    Example:
        >>> MSAM().gradients_per_step
        1.0
    """
    return Variant("MSAM", Constant(rho), ascent=Recalled(sign=-1.0), descent=Momentum(mu))


def OptSAM(rho: Rho = 0.05) -> Variant:
    r"""Climb along the last perturbed gradient, so that one gradient is enough.

    $$ \hat\epsilon_t = \rho\,\frac{h_{t-1}}{\lVert h_{t-1}\rVert}, \qquad \text{gradient} = h_t $$

    Known as OptSAM and as S2-SAM (single-step SAM).  The formula is from memory, not from a paper that was read: rely
    on its identities.  The loss that comes back is that at the perturbed point.

    Reduces to the base optimizer at rho = 0 and in the first step.

    Args:
        rho: the radius.

    Example:
        >>> OptSAM().gradients_per_step
        1.0
    """
    return Variant("OptSAM", Constant(rho), ascent=Recalled(), descent=Momentum(0.0))


def AsyncSAM(rho: Rho = 0.05) -> Variant:
    r"""Climb along the gradient of the step before, so that both gradients of a step can be computed at once.

    $$ \hat\epsilon_t = \rho\,\frac{g_{t-1}}{\lVert g_{t-1}\rVert}, \qquad \text{gradient} = h_t $$

    Asynchronous SAM with a delay of one; the formula is from a third party's code.

    Reduces to the base optimizer at rho = 0 and in the first step.

    Args:
        rho: the radius.

    Example:
        >>> AsyncSAM().gradients_per_step
        2.0
    """
    return Variant("AsyncSAM", Constant(rho), ascent=PreviousGradient())


def SAMPa(rho: Rho = 0.1, lmbda: float = 0.2, lr: float | Schedule = 0.1) -> Variant:
    r"""Parallel SAM: climb along a gradient that the last step computed ahead, whose two gradients are independent.

    $$ \hat\epsilon = \rho\,\frac{d_t}{\lVert d_t\rVert}, \qquad d_{t+1} = \nabla L(w - \eta\,d_t), \qquad
       \text{gradient} = (1-\lambda)\,h + \lambda\,d_{t+1} $$

    Xie, Latorre, Antonakopoulos, Pethick, Cevher, NeurIPS 2024, arXiv 2410.10683.  Run in sequence here, on one batch.
    lr is the base optimizer's learning rate.

    Reduces to the base optimizer where the gradient is constant, for every lambda.

    Args:
        rho: the radius.
        lmbda: the weight of the gradient computed ahead.
        lr: the base optimizer's learning rate, a number or a schedule.

    Example:
        >>> SAMPa(lr=0.01).gradients_per_step
        2.0
    """
    check.number("lmbda", lmbda)
    return Variant("SAMPa", Constant(rho), ascent=Recalled(), descent=Extrapolated(lmbda, lr))


def CRSAM(rho: Rho = 0.1, gamma: float = 0.1, beta: float = 0.01) -> Variant:
    r"""Curvature-regularised SAM: penalise the second and first differences of the loss along the perturbation.

    $$ \text{gradient} = h_+ + \gamma\,(h_+ + h_- - 2g) + \beta\,(h_+ - h_-), \qquad
       h_\pm = \nabla L(w \pm \hat\epsilon) $$

    Wu, Luo, Wunsch, AAAI 2024, arXiv 2312.13555, as in the authors' code (the paper's regulariser divides the
    differences).

    Reduces to SAM at gamma = beta = 0.

    Args:
        rho: the radius.
        gamma: the weight of the second difference.
        beta: the weight of the first.

    Example:
        >>> CRSAM().gradients_per_step
        3.0
    """
    check.number("gamma", gamma)
    check.number("beta", beta)
    return Variant("CRSAM", Constant(rho), descent=Curvature(gamma, beta))


def RSAM(rho: Rho = 0.05, sigma: float = 0.01, seed: int = 0) -> Variant:
    r"""Random SAM: the ball lies round a random point near w.

    $$ \delta \sim \mathcal N(0, \sigma^2 I), \qquad \hat\epsilon = \rho\,\frac{d}{\lVert d\rVert},\quad
       d = \nabla L(w + \delta), \qquad \text{gradient} = \nabla L(w + \delta + \hat\epsilon) $$

    Liu, Mai, Cheng, Chen, Hsieh, You, NeurIPS 2022, "Random sharpness-aware minimization".  The noise's scaling is from
    memory, not from the paper: rely on the identities.  The loss that comes back is that at w + delta.

    Reduces to SAM at sigma = 0.

    Args:
        rho: the radius.
        sigma: the noise's standard deviation, in the units of the weights.
        seed: of the noise.

    Example:
        >>> RSAM(sigma=0.1).ascent
        GradientAtNoise(steps=1, sigma=0.1, seed=0)
    """
    return Variant("RSAM", Constant(rho), ascent=GradientAtNoise(sigma=sigma, seed=seed))


def RandomSmoothing(rho: Rho = 0.05, seed: int = 0) -> Variant:
    r"""A random direction in the adversary's place: the control of every sharpness experiment.

    $$ \hat\epsilon = \rho\,\frac{z}{\lVert z\rVert}, \quad z \sim \mathcal N(0, I), \qquad \text{gradient} = h $$

    The random control of Foret et al., arXiv 2010.01412, appendix C.5.  The loss that comes back is that at the
    perturbed point.

    Reduces to the base optimizer at rho = 0.

    Args:
        rho: the length of the perturbation.
        seed: of the noise.

    Example:
        >>> RandomSmoothing().gradients_per_step
        1.0
    """
    return Variant("RandomSmoothing", Constant(rho), ascent=Noise(seed=seed))


def EigenSAM(rho: Rho = 0.1, alpha: float = 0.2, every: int = 100, iterations: int = 5, seed: int = 0) -> Variant:
    r"""SAM turned towards the top eigenvector v of the Hessian.

    $$ d = \hat g + \alpha\,\mathrm{sign}\langle g, v\rangle\,(v - \langle\hat g, v\rangle\,\hat g), \qquad
       \hat\epsilon = \rho\,d, \qquad \text{gradient} = h $$

    Luo, Truong, Pham, Harandi, Phung, Le, NeurIPS 2024, "Explicit eigenvalue regularization improves sharpness-aware
    minimization", arXiv 2501.12666, as in the authors' code: the perturbation is not normalised again.  v comes from
    power iterations, a Hessian-vector product each.

    Reduces to SAM at alpha = 0.

    Args:
        rho: the radius.
        alpha: how far the direction is turned.
        every: steps between two refreshments of v.
        iterations: power iterations for each.
        seed: of the vector that they start from.

    Example:
        >>> EigenSAM(every=100).hessian_vector_products_per_step
        0.05
    """
    ascent = TowardsEigenvector(alpha=alpha, every=every, iterations=iterations, seed=seed)
    return Variant("EigenSAM", Unnormalised(rho), ascent=ascent)


FAMILY: dict[str, Callable[..., Variant]] = {
    row.__name__: row
    for row in (
        SAM,
        USAM,
        ASAM,
        FisherSAM,
        SAMON,
        SSAM,
        SSAMD,
        ESAM,
        GSAM,
        GNP,
        WSAM,
        StableSAM,
        LookSAM,
        PeriodicSAM,
        SSSAM,
        AESAM,
        FriendlySAM,
        VaSSO,
        MSAM,
        OptSAM,
        AsyncSAM,
        SAMPa,
        CRSAM,
        RSAM,
        RandomSmoothing,
        EigenSAM,
    )
}
