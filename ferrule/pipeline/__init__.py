"""The passes in their order, and programs made by them."""
