"""The embedded stack of one machine: Java, jars, a broker, and the parts under one supervisor."""
