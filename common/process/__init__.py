"""What every program does as a process of its system, whatever it is for.

program             from the command line to the exit code: options, logs, errors; what it keeps from other programs
log_lines, streams  what it writes to its log, and to terminal, pipe or file
events              what its steps tell while they work: warnings, bytes that are done, what is waited for
progress            the same for people at a terminal: lines on stderr, and how far it is
stopping            ending when it is asked to; `interruption`: in an event loop, whose tasks tidy up first
running_time        the clock that stands still while the process does
background_process  a process of its own that goes on after this one
libraries           the C libraries it stands on
"""
