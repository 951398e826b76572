"""Where answers leave: the command line, the HTTP service, reports and the page."""
