"""`python -m ecgedge` is `ecgedge`; torchrun starts modules, not commands."""

from ecgedge.cli import main

if __name__ == "__main__":
    main()
