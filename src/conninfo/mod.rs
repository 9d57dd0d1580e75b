//! Connection strings, environment, service file, password file.
