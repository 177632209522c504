"""The levels of the intermediate representation, and what all rooms need to speak of them."""
