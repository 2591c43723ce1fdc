"""Everything between this box and the centre. May not import the flow: they meet in the store."""
