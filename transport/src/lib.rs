//! Links: ZeroMQ DEALER pairs behind a frame guard, with or without mTLS.
