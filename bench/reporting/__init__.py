"""From what was measured to JSON, tables, diagrams and pages.

``run``: the JSON of a result, and where it comes from; ``table``: tables as data; ``output``: what is written and
printed; ``rd_report``, ``lengths`` and ``progression``: how rates, code lengths and progressive decoding are
presented; ``page`` and ``svg``: all of it as HTML.
"""
