"""CRMs of every kind behind one interface; docs/adapters.md says what an adapter owes."""
