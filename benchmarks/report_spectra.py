"""The report's section on curvature: the spectra of the solutions of SGD and SAM, for one seed."""

from collections.abc import Mapping, Sequence

from benchmarks import figures, page
from benchmarks.cells import Cell
from benchmarks.curvature_measures import Effort
from benchmarks.methods import METHODS, NOISE_LEVELS
from benchmarks.summary import capital, labels
from samfamily.curvature import Density

EFFORT = Effort(examples=1000, order=24, draws=3)


def section(spectra: Sequence[tuple[Cell, Density]], backends: Mapping[str, str]) -> str:
    """A spectrum of each method, a panel for each kind of labels."""
    panels = []
    for noise in NOISE_LEVELS:
        here = {cell.method: density for cell, density in spectra if cell.noise == noise}
        methods = [method for method in METHODS if method in here]
        named = {METHODS[method].name: here[method] for method in methods}
        alt = f"Spectral density of the training loss's Hessian, {' and '.join(named)}, {labels(noise)}."
        panels.append(figures.spectrum(named, capital(labels(noise)), alt, methods))
    text = (
        "The eigenvalues of the training loss's Hessian say how fast the loss rises around a solution, and along how "
        "many directions it does: most are near zero, and the few large ones are what SAM is after. "
        "python -m benchmarks curvature measures them closely, for several seeds."
    )
    caption = (
        f"Solutions found by {backends[spectra[0][0].backend]}, seed 0, on the first {EFFORT.examples} training "
        f"examples. Stochastic Lanczos quadrature with {EFFORT.draws} random directions, in a band of one standard "
        "error. Triangles: the largest eigenvalue."
    )
    return page.section("The curvature of the solutions", page.paragraph(text), page.panels(panels, caption))
