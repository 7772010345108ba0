"""Architecture search: objectives, weighting, bilevel gradients, and the methods built from them."""
