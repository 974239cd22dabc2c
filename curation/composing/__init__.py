"""Make scenes from a recipe: people and props of the pack on clean photographs."""
