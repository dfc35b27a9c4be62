# Of two proxies one hears no agent while the leader changes. It gives the old leader nothing new once its word
# is a second old, holds its clients, refuses them in time, and serves them again when it hears.
cluster n1 n2 n3 durability quorum
lead n1
proxy p1
proxy p2
wait 1s
deafen-proxy p2 for 12s
wait 1100ms
failover n2
expect leader n2 within 5s
via p1 x1 block
expect told x1 done within 2s
via p2 x2 block
expect untold x2 for 7s
expect told x2 57P03 within 2s
expect never x2
wait 4s
via p2 x3 block
expect told x3 done within 2s
expect once x3
wait 2s
end
