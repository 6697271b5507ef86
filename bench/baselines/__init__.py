"""What ours is measured against: codecs on this machine, and figures that others published."""
