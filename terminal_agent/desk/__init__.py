"""The issuing desk: blank cards become members' cards, and cards are shown, checked and wiped."""
