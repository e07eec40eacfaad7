"""The till's local HTTP API: POS software and the cashier page open checkouts here and hear what becomes of them."""
