"""The original VSE++ checkpoints (Faghri et al., BMVC 2018): read, never executed, for inference only."""
