"""How a model becomes a code: tables measured on pictures that are not for testing."""
