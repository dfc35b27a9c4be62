# An operator wants the only standby made anew that an elected leader waits for, and that has attached in its term: it may
# have acknowledged under it, so it can't leave before the term is open, and goes on following until then.
cluster n1 n2 witness w durability quorum
lead n1
write w1
kill n1 postmaster
tear n1                         # it gets nowhere until it is restarted
expect no leader for 2s
reinit n1
expect leader n2 within 30s
expect rule n1 within 30s
write w2
expect durable w1
