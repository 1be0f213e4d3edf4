"""One module for each command of the command line: `arguments(parser)` and `run(options) -> result`."""
