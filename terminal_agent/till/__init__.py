"""At the till: checkouts by tap."""
