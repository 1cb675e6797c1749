"""Layer 4: PDEs stepped and solved with natural gradients, and the landscapes of their losses."""
