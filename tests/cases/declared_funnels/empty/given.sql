-- Nothing was ever declared; what another project declares stays there.
INSERT INTO catalog (project, kind, name, funnel, position, service, release, time) VALUES
    (2, 'step', 'checkout.cart', 'checkout', 0, 'shop', '1.0', '2026-02-01 00:00:00');
