"""What every program does as a process of the operating system.

program             from the command line to the exit code: options, logs, errors
privacy             what it keeps from other programs, before it loads anything
streams             what it writes to its log, and to terminal, pipe or file
events              the events of every program: warnings, bytes that are done, waits
progress            the same at a terminal: lines on stderr, and a bar
stopping            ending on a signal; `interruption`: in an event loop, whose tasks clean up first
running_time        a clock that does not count suspension
background_process  a process of its own that goes on after this one
libraries           the C libraries' versions
"""
