"""Everything between this box and the provincial centre. May not import the flow: they meet in the store."""
