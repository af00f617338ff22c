-- Nothing to note: no release without the hours ran on this engine.
SELECT;
