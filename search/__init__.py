"""Finding the best mixed precision under a budget; ``eqnet.search.driver.search`` is the way in."""
