"""The command line."""


def main() -> None:
    import logging
    from corral.config import load_settings
    from corral.server import run
    logging.basicConfig(level=logging.INFO)
    run(load_settings())
