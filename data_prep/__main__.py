"""`python -m data_prep`: the door to fetching, extracting and synthesizing."""

from data_prep.cli import main

if __name__ == "__main__":
    main()
