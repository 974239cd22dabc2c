"""The attention gap: what a model looks at when it fills the place of a person."""
