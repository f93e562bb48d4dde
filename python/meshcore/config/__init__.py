"""From what a person writes to what the core compiles.

`load` reads YAML and knows where every key stands, `model` says what may be written, `check`
looks at what one key cannot know of another, `compile` makes the plain snapshot of it. `syntax` and
`habits` know what people write instead, `warnings` what is allowed and surely a mistake.
"""
