# Async; the leader's postmaster stands still for good: nobody new gets in, and another must lead.
cluster n1 n2 witness w durability async
lead n1
write w1
freeze n1 postmaster
expect leader n2 within 20s
