"""What measurements share: their command line, their pictures, work in parts, watches."""
