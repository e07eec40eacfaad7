"""What our bytes on a card mean: layout, keys, sealed blocks, the session on an open card and the tap transaction."""
