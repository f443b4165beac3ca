"""What the commands do, one a file. A floor of its own so that `cli.py` stays thin and loads just the one that runs."""
