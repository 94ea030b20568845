"""`thresher view`: a local page to browse a whole pool and to select again from stored columns. No
model ever runs.

    session    one opened selection: its current parameters, the rows they select (displayed), the
               pinned and banned rows (pins)
    export     writes it to a new selection folder
    recall     columns kept in memory; refuses to score
    browse     which rows are displayed: filters, search, order, pages
    cards      a row as the page displays it; thumbnails
    app        the routes      guard    access control      serve    the process

Needs the extra `view` (Starlette, uvicorn) for app and serve only. docs/viewer.md is the user's
guide.
"""
