"""From the JSON of measurements to tables, diagrams and pages."""
