"""The levels of ferrule's intermediate representation, and what all rooms need to speak about them."""
