"""What ours is measured against: codecs on this machine (``peers``), figures that others published (``literature``)."""
