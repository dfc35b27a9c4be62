# With a witness that keeps WAL a relaxed pair waits for it instead of for nobody, and shrinks to nobody only without both.
cluster n1 n2 witness w wal durability quorum-relaxed
lead n1
write w1
kill n2
expect rule w within 10s
write w2
start n2
expect rule n2 w within 20s
kill n1
expect leader n2 within 3s
expect durable w2
start n1
expect rule n1 w within 30s
kill w
expect rule n1 within 10s
write w3
start w
expect rule n1 w within 20s
