"""From a decision to something that lasts: pictures on disk, the event as a CloudEvents document, sinks."""
