"""Published layouts, one family a file: each module holds its tables as `LAYOUT`."""
