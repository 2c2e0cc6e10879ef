"""How long networks take on this machine, with the engine that runs them: measured, kept, and added up by layer."""
