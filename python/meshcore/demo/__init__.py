"""A mesh to look at: `meshcore demo`. `live` runs it, `screen` draws it."""
