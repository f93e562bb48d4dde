"""`python -m meshcore` is `meshcore`."""

from meshcore.cli import main

if __name__ == "__main__":
    main(prog_name="meshcore")
