"""`thresher view`: a local page to look at a whole pool and to choose again, with columns that are
there. No model ever runs.

    session    one opened selection: what is asked now, the rows that this gives (shown), what was
               pinned and banned (pins)
    export     writes it as a selection folder of its own
    recall     columns kept in memory; refuses to score
    browse     which rows are shown: filters, search, order, pages
    cards      a row as the page shows it; thumbnails
    app        the routes          guard    who may ask          serve    the process

Needs the extra `view` (Starlette, uvicorn) for app and serve only. docs/viewer.md says it for
users.
"""
