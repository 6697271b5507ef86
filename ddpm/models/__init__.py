"""A network with its schedule, loaded by name, from files, runs and diffusers' folders."""
