"""What programs say of themselves: accesses, contractions, costs, sizes, constants."""
