"""Layer 4: neural differential equations whose training makes them cheap to solve."""
