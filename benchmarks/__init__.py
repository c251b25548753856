"""What the library does for training, measured: `python -m benchmarks NAME`.

Every figure that a benchmark shows is computed in the run that shows it. Each command is one module with
`add_arguments(parser)` and `main(arguments)`; `benchmarks.__main__` lists them.
"""
