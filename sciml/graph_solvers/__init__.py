"""Layer 4: graph networks that solve for the fixed point of a contraction."""
