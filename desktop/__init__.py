"""The desktop app: the same as producer, consumer and admin, with a mouse.

    command      the command line: starts the window
    session      the state of this user: folder, cluster, vault, its key once it is unlocked; settings
    background   runs work in other threads and delivers its outcome in the window's
    services     the device and the broker that this computer runs beside the window; `login`: started at login
    model/       what a view shows and does, without a window: one model for a view, tested without one
    views/       thin: widgets that show a model and call its methods
    garbage      garbage collection in the window's thread
    app          the window: navigation, errors, the equivalent command

How they go together. A model is used in the window's thread only. Slow work it gives to `Background`,
as a blocking call (`run`) or a coroutine (`start`), together with what is to be called on the window's thread with the
result or the TesseraError. Meanwhile the work reports its progress by `Background.post`. A model changes its
attributes and calls `changed()`; its view, which asked for that by `on_change`, reads the attributes and shows them
(`views.view.View` gathers many changes into one `show`). A view calls a model's methods and never anything else: no
producer, consumer, admin or common is imported by a view. A model has an `error` and a `command`, which the window
shows for the view that is in front.

For a new view: a model in `model/` (subclass `Model`), a view in `views/` (subclass `View`, with `build` and `show`),
and a line in `app.ROUTES`.
"""
