"""The browser workbench: pages over one worker process and the folder of runs. No torch here.

`desk` is what every page is given, `server` puts the pages together. A page module has `build(desk, shared)`, which is
called inside its own tab, and handlers that are plain functions of the desk and of values.
"""
